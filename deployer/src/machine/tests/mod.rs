//! The machine against the twin's world: the table, single stories, a crash at every point, and random lives.

mod crash;
mod driver;
mod other_data;
mod property;
mod stories;
mod table;
