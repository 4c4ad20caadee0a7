//! A question over HTTP/1.1 to a program on this host: connect, send, read a bounded answer, and say in words what was
//! seen. One fresh connection per question.
//!
//! What several adapters need and none owns. Deliberately absent: what an answer means, retries, redirects, TLS.

pub mod http;
pub mod json;
pub mod tcp;
pub mod words;
