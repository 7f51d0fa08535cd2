//! The `exeat` program: arguments in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    exeat::cli::run(std::env::args_os())
}
