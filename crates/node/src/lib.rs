//! The service: configuration, engine, queue, routes, errors, start-up.
