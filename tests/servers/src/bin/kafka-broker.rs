//! Starts a broker for tests in other languages: tells its address on a line of its output, and ends it when its own input
//! ends. What it reads meanwhile are orders, a line each, and each is answered when it is carried out.

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
            "stall" => broker.stall(),
            "go on" => broker.go_on(),
            other => panic!("`{other}` is no order: kill, restart, stall, go on"),
        }
        writeln!(answers, "done")?;
    }
    Ok(())
}
