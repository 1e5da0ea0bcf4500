//! A confidential-images client: seal a request, open and check its response.
