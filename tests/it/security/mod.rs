//! Attacks, by the numbers of the table in `docs/security.md`, and the fuzzers' seeds.

mod addresses;
mod answers;
mod audit;
mod bodies;
mod corpus;
mod data_dir;
mod elevation;
mod floods;
mod frames;
mod guesses;
mod links;
mod login;
mod names;
mod origins;
mod ownership;
mod pages;
mod policy;
mod readers;
mod revocation;
mod secrets;
