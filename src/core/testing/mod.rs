//! For tests: a seeded simulation of one environment with its entry, and what it is made of.
//!
//! Behind the feature `testing`, so that nothing of it reaches the product.

pub mod disk;
pub mod random;
pub mod sim;
mod units;
pub mod world;
