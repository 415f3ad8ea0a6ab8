//! Whalewatch's trackers.
pub mod btf;
