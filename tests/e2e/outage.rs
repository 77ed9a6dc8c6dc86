//! Postgres that goes away and comes back, in all the ways in which it does.

use std::time::Duration;

use anyhow::Result;
use sluice_tests::checker::Readings;
use sluice_tests::postgres::Database;
use sluice_tests::scene::Scene;
use sluice_tests::wait::{SOON, until_true};
use sluice_tests::work::{LANES, RESUME_MAX, Work};

mod backends;
mod connections;
mod crash;
mod disk;
mod failover;
mod hang;
mod locks;
mod read_only;
