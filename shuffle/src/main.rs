use std::process::ExitCode;

fn main() -> ExitCode {
    watershed_shuffle::cli::main()
}
