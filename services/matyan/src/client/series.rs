//! Edits of the series of a run.

use clap::{Args, Subcommand};
use matyan_proto::{
    common::v1::{SeriesKey, SeriesType, StepRange},
    series::v1::{
        DeleteRequest, DeleteStepsRequest, RenameRequest, series_service_client::SeriesServiceClient,
    },
};
use serde_json::json;

use super::{
    Error, client,
    confirmation::confirm,
    flags::ClientFlags,
    output::{Output, cell},
    run_ids,
};

const SERIES_EXAMPLES: &str = "\
Examples:
  matyan series rename 3fd1c0 los --to loss
  matyan series rename 3fd1c0 loss --context '{\"subset\":\"valid\"}' --to-context '{\"subset\":\"val\"}'
  matyan series rm 3fd1c0 loss --from 1000 --yes             steps from 1000 on
  matyan series rm 3fd1c0 samples --objects --yes            a sequence of images, texts or others

An edit concerns what was logged before it. A script that still logs under the old name creates it again.";

#[derive(Debug, Args)]
#[command(after_help = SERIES_EXAMPLES)]
pub(crate) struct SeriesFlags {
    #[command(subcommand)]
    command: SeriesCommand,
    #[command(flatten)]
    client: ClientFlags,
}

#[derive(Debug, Subcommand)]
enum SeriesCommand {
    /// Give a series another name, another context, or both
    Rename {
        #[command(flatten)]
        series: SeriesChoice,
        /// New name; by default, the current one
        #[arg(long, value_name = "NAME", required_unless_present = "to_context")]
        to: Option<String>,
        /// New context; by default, the current one
        #[arg(long, value_name = "JSON")]
        to_context: Option<String>,
    },
    /// Delete a series, or some of its steps
    Rm {
        #[command(flatten)]
        series: SeriesChoice,
        /// First step to delete; by default, the first of the series
        #[arg(long, value_name = "STEP", allow_negative_numbers = true)]
        from: Option<i64>,
        /// Step after the last one to delete; by default, all to the end
        #[arg(long, value_name = "STEP", allow_negative_numbers = true)]
        until: Option<i64>,
        /// Do not ask for confirmation
        #[arg(long, short)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
struct SeriesChoice {
    /// Hash of the run, or at least its first four characters
    run: String,
    /// Name of the series
    name: String,
    /// Context of the series
    #[arg(long, value_name = "JSON", default_value = "")]
    context: String,
    /// A sequence of objects instead of a metric
    #[arg(long)]
    objects: bool,
}

impl SeriesChoice {
    /// The type of the series; one type of objects is enough to name all types of objects.
    fn series_type(&self) -> i32 {
        (if self.objects { SeriesType::Texts } else { SeriesType::Metric }).into()
    }

    fn key(&self) -> SeriesKey {
        SeriesKey { name: self.name.clone(), context: self.context.clone() }
    }
}

pub(super) async fn run(flags: SeriesFlags) -> Result<(), Error> {
    let out = &mut Output::new(flags.client.connection.json);
    let channel = flags.client.connect().await?;
    let mut command = flags.command;
    let (SeriesCommand::Rename { series, .. } | SeriesCommand::Rm { series, .. }) = &mut command;
    series.run = run_ids::complete(&channel, std::mem::take(&mut series.run)).await?;
    if let SeriesCommand::Rm { series, from, until, yes: false } = &command {
        let what = if from.or(*until).is_some() { "steps of " } else { "" };
        confirm(&format!("{what}series {} of run {}", cell(&series.name), cell(&series.run)), out)?;
    }
    let mut client = client!(SeriesServiceClient, channel);
    // The commands run once, so they need no request id.
    let request_id = String::new();
    let (series, done) = match command {
        SeriesCommand::Rename { series, to, to_context } => {
            let name = to.unwrap_or_else(|| series.name.clone());
            let context = to_context.unwrap_or_else(|| series.context.clone());
            let new_key = Some(SeriesKey { name, context });
            let request = RenameRequest {
                run_id: series.run.clone(),
                r#type: series.series_type(),
                key: Some(series.key()),
                new_key,
                request_id,
            };
            client.rename(request).await?;
            (series, "renamed")
        }
        SeriesCommand::Rm { series, from: None, until: None, .. } => {
            let request = DeleteRequest {
                run_id: series.run.clone(),
                r#type: series.series_type(),
                key: Some(series.key()),
                request_id,
            };
            client.delete(request).await?;
            (series, "deleted")
        }
        SeriesCommand::Rm { series, from: start, until: stop, .. } => {
            let request = DeleteStepsRequest {
                run_id: series.run.clone(),
                r#type: series.series_type(),
                key: Some(series.key()),
                steps: Some(StepRange { start, stop }),
                request_id,
            };
            client.delete_steps(request).await?;
            (series, "steps deleted")
        }
    };
    out.result(
        &json!({"run_id": series.run, "name": series.name, "status": done}),
        format!("{}  {done}", cell(&series.name)),
    )?;
    Ok(())
}
