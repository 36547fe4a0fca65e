//! Makes the container image of one program.

use std::process::ExitCode;

use clap::Parser;
use images::args::Args;

fn main() -> ExitCode {
    match images::build::run(&Args::parse()) {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
