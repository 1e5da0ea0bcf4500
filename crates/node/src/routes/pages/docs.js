// Swagger UI shows this node's own document: it asks nobody else, and a key that is typed in ends with the page.
"use strict";
SwaggerUIBundle({
  dom_id: "#api",
  url: "openapi.json",
  validatorUrl: null,
  queryConfigEnabled: false,
  persistAuthorization: false,
  deepLinking: true,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  defaultModelsExpandDepth: 0,
});
