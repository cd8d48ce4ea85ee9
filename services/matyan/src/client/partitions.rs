//! Progress of the workers for each partition, and the command that skips lost records.

use clap::{Args, Subcommand};
use matyan_proto::admin::v1::{
    ListPartitionsRequest, Partition, SkipLostRecordsRequest, admin_service_client::AdminServiceClient,
};
use serde_json::{Value, json};

use super::{Error, client, flags::ConnectionFlags, output::Output};

const PARTITIONS_EXAMPLES: &str = "\
Examples:
  matyan partitions ls              how much of each partition is written, and how much applied
  matyan partitions ls --json
  matyan partitions skip 3          when `partitions ls` shows that partition 3 lost records

Workers stop a partition whose records were deleted before they were applied, and one whose log has lost its last
records, so that no loss goes unnoticed. They also stop at a partition whose first records are gone and of which this
store has applied nothing: the store may be the wrong one, or need a restore.";

#[derive(Debug, Args)]
#[command(after_help = PARTITIONS_EXAMPLES)]
pub(crate) struct PartitionsFlags {
    #[command(subcommand)]
    command: PartitionsCommand,
    #[command(flatten)]
    client: ConnectionFlags,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PartitionsCommand {
    /// List partitions, and how much of each is applied
    Ls,
    /// Continue a partition after the records that it lost
    Skip { partition: u32 },
}

pub(super) async fn run(flags: PartitionsFlags) -> Result<(), Error> {
    let out = &mut Output::new(flags.client.json);
    let mut admin = client!(AdminServiceClient, flags.client.connect().await?);
    match flags.command {
        PartitionsCommand::Ls => {
            let listed = admin.list_partitions(ListPartitionsRequest {}).await?.into_inner();
            Ok(list(&listed.partitions, out)?)
        }
        PartitionsCommand::Skip { partition } => {
            let skipped = admin.skip_lost_records(SkipLostRecordsRequest { partition }).await?.into_inner();
            Ok(print_skipped(partition, skipped.records, out)?)
        }
    }
}

fn list(partitions: &[Partition], out: &mut Output) -> std::io::Result<()> {
    if out.json {
        return partitions.iter().try_for_each(|partition| out.object(&object(partition)));
    }
    let rows: Vec<_> = partitions.iter().map(row).collect();
    out.table(["PARTITION", "LOG", "FIRST", "APPLIED", "END", "STATE"], &rows)
}

/// Records that were deleted from the log before they were applied.
fn lost(partition: &Partition) -> u64 {
    partition.first.saturating_sub(partition.applied)
}

/// Records in the log that are not yet applied.
fn lag(partition: &Partition) -> u64 {
    partition.end.saturating_sub(partition.applied.max(partition.first))
}

fn row(partition: &Partition) -> [String; 6] {
    let Partition { partition: id, log, first, applied, end, .. } = *partition;
    let state = match (lost(partition), partition.shortened_to, lag(partition)) {
        _ if partition.is_headless => {
            format!("stopped: begins at {first}, and nothing of it was applied here")
        }
        (0, Some(to), _) if applied < to => format!("{} to apply; the log lost later records", to - applied),
        (0, Some(to), _) => format!("stopped: the log lost records {to} to {}", applied.saturating_sub(1)),
        (0, None, 0) => "all applied".to_owned(),
        (0, None, lag) => format!("{lag} to apply"),
        (lost, ..) => format!("stopped: {lost} records lost"),
    };
    [id.to_string(), log.to_string(), first.to_string(), applied.to_string(), end.to_string(), state]
}

fn object(partition: &Partition) -> Value {
    let Partition { partition: id, log, first, applied, end, oldest_unapplied_us, shortened_to, is_headless } =
        *partition;
    json!({
        "partition": id,
        "log": log,
        "first": first,
        "applied": applied,
        "end": end,
        "lag": lag(partition),
        "lost": lost(partition),
        "shortened_to": shortened_to,
        "is_headless": is_headless,
        "oldest_unapplied_us": oldest_unapplied_us,
    })
}

fn print_skipped(partition: u32, records: u64, out: &mut Output) -> std::io::Result<()> {
    if out.json {
        return out.object(&json!({"partition": partition, "records_given_up": records}));
    }
    match records {
        0 => out.line(format!("partition {partition} has lost no records, so there is nothing to skip")),
        _ => out.line(format!("partition {partition} continues after {records} lost records")),
    }
}
