//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use super::{floor::Way, measure::Measure};

/// Measures exeat beside the other proxies on this machine.
#[derive(Debug, Parser)]
#[command(name = "proxies")]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) role: Option<Role>,
    /// Only these proxies
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// Not these proxies
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) without: Vec<String>,
    /// Only these measures
    #[arg(long, value_name = "MEASURES", value_delimiter = ',')]
    pub(crate) measure: Vec<Measure>,
    /// How often everything is measured
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
    /// In how many of the rounds memory and idle tunnels are measured
    #[arg(long, value_name = "ROUNDS", default_value_t = 2)]
    pub(crate) idle_rounds: u32,
    /// Of load, for each figure; a fifth of it more to warm up
    #[arg(long, default_value_t = 0.6)]
    pub(crate) seconds: f64,
    /// Names that each proxy allows
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rules: u32,
    /// Whose figures are divided by those of the others
    #[arg(long, value_name = "NAME", default_value = "exeat")]
    pub(crate) against: String,
    /// Everything that was measured, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// More proxies, described as in benches/proxies/peers.toml
    #[arg(long, value_name = "FILE")]
    pub(crate) peers: Vec<PathBuf>,
    /// Say what would be measured, and what was not found
    #[arg(long)]
    pub(crate) list: bool,
    /// What `cargo bench` adds
    #[arg(long, hide = true)]
    bench: bool,
}

/// What a child of this program does.
#[derive(Debug, Subcommand)]
#[command(disable_help_subcommand = true)]
pub(crate) enum Role {
    /// Origins and their DNS server
    #[command(hide = true)]
    Origins { dir: PathBuf },
    /// The least that a CONNECT relay must do
    #[command(hide = true)]
    Floor {
        #[arg(long)]
        port: u16,
        #[arg(long)]
        host: String,
        way: Way,
    },
    /// A plain tokio and hyper proxy
    #[command(hide = true)]
    Reference {
        #[arg(long)]
        port: u16,
        #[arg(long)]
        allow: PathBuf,
    },
}
