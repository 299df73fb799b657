use std::process::ExitCode;

fn main() -> ExitCode {
    watershed_broker::cli::main()
}
