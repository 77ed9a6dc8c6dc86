//! The program behind `cargo verify`.

use std::process::ExitCode;

fn main() -> ExitCode {
    sluice_tests::verify::main()
}
