//! For tests: seeded simulations of one environment with its entry and of a fleet, and what they are made of.
//!
//! Behind the feature `testing`, so that nothing of it reaches the product.

pub mod database;
pub mod disk;
pub mod fleet_sim;
pub mod random;
pub mod sim;
mod units;
mod members;
pub mod world;
