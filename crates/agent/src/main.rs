//! The program `switchback-agent`; see the library.

fn main() -> std::process::ExitCode {
    switchback_agent::main()
}
