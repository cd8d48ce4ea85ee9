//! The program that starts a broker for tests in other languages. A program that a test runs is
//! built with the tests, so that tests in other languages find it.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::TcpStream,
    process::{Command, ExitCode, Stdio},
};

use libtest_mimic::{Arguments, Failed, Trial};
use matyan_servers::kafka::unavailable_reason;

fn main() -> ExitCode {
    let reason = unavailable_reason();
    let name = match &reason {
        None => "a_broker_runs_until_the_input_ends".to_owned(),
        Some(reason) => format!("a_broker_runs_until_the_input_ends ({reason})"),
    };
    let trial = Trial::test(name, a_broker_runs_until_the_input_ends).with_ignored_flag(reason.is_some());
    libtest_mimic::run(&Arguments::from_args(), vec![trial]).exit_code()
}

fn a_broker_runs_until_the_input_ends() -> Result<(), Failed> {
    let mut program = Command::new(env!("CARGO_BIN_EXE_kafka-broker"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut commands = program.stdin.take().ok_or("no input")?;
    let mut lines = BufReader::new(program.stdout.take().ok_or("no output")?).lines();
    let address = lines.next().ok_or("no address")??;
    TcpStream::connect(&address)?;
    writeln!(commands, "kill")?;
    assert_eq!(lines.next().ok_or("no confirmation")??, "done");
    assert!(TcpStream::connect(&address).is_err(), "the broker is killed");
    drop(commands);
    assert!(program.wait()?.success());
    Ok(())
}
