//! Starts a broker for tests in other languages. It prints the broker's address on a line, and
//! stops the broker when its own standard input ends. Until then it reads commands, one per
//! line, and confirms each when it is done.

use std::io::{BufRead, Write, stdin, stdout};

use matyan_servers::kafka::Broker;

fn main() -> std::io::Result<()> {
    let mut broker = Broker::start();
    let mut answers = stdout();
    writeln!(answers, "{}", broker.address())?;
    for order in stdin().lock().lines() {
        match order?.as_str() {
            "kill" => broker.kill(),
            "restart" => broker.restart(),
            "suspend" => broker.suspend(),
            "resume" => broker.resume(),
            other => panic!("unknown command `{other}`: use kill, restart, suspend or resume"),
        }
        writeln!(answers, "done")?;
    }
    Ok(())
}
