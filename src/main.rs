//! The command line.

fn main() -> std::process::ExitCode {
    systole::cli::main()
}
