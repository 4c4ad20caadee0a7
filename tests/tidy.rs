//! The rules of the house, executed: who may import whom, which crate lives where, how long things may be, which words
//! and calls are not used, and whether the documents speak of things that exist.
//!
//! Each rule is a function from the tree to findings; it has one test on the real tree and one proof that it bites.
//! Reading order: `source` (the tree, and code without its strings and comments), then a file per kind of rule.

#[path = "tidy/crates.rs"]
mod crates;
#[path = "tidy/documents.rs"]
mod documents;
#[path = "tidy/layers.rs"]
mod layers;
#[path = "tidy/shape.rs"]
mod shape;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/words.rs"]
mod words;
