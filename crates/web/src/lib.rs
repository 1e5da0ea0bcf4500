//! What the node and the side-car have in common as HTTP services: who is asking, what a body says it
//! is, how a refusal looks, and how a connection ends.
//!
//! | module | what it knows |
//! |---|---|
//! | [`origin`] | whether a request was meant for this service, or a page of another site sent it |
//! | [`credentials`] | the bearer key of a request |
//! | [`media_type`] | whether a body is JSON |
//! | [`body_error`] | why a body is not read |
//! | [`body_rate`] | how fast a body must arrive |
//! | [`multipart`] | forms with files |
//! | [`answer`] | errors as OpenAI's clients read them |
//! | [`image_store`] | images that wait to be fetched by an unguessable name |
//! | [`path`] | the name in a route's path |
//! | [`source`] | who shares a bound |
//! | [`sse`] | an answer of events |
//! | [`connection`] | how many connections there may be, which makes way, and how slow a reader may be |
//! | [`linger`] | ending a connection, or a stream of one, without cutting off what was said last |

pub mod answer;
pub mod body_error;
pub mod body_rate;
pub mod connection;
pub mod credentials;
pub mod image_store;
pub mod linger;
pub mod media_type;
pub mod multipart;
pub mod origin;
pub mod path;
pub mod source;
pub mod sse;
