//! Answers that are put together from a stream of the backend, up to the largest size of an answer.

use matyan_proto::studies::v1 as pb;
use tonic::{Status, Streaming};

use crate::errors;

/// Largest answer. Clients accept any size, and expect all trials that are new to them in one message.
pub(crate) const ANSWER_BYTES: usize = 256 << 20;

/// Counts the bytes of an answer.
#[derive(Default)]
pub(crate) struct AnswerSize {
    bytes: usize,
}

impl AnswerSize {
    pub(crate) fn add(&mut self, message: &impl prost::Message) -> Result<(), Status> {
        self.bytes += message.encoded_len();
        if self.bytes <= ANSWER_BYTES {
            return Ok(());
        }
        Err(Status::resource_exhausted(format!(
            "the answer has more than {ANSWER_BYTES} bytes: begin a new study, or store large attributes elsewhere"
        )))
    }
}

/// All attributes of a stream.
pub(crate) async fn attributes(
    mut stream: Streaming<pb::ListAttributesResponse>,
    size: &mut AnswerSize,
) -> Result<Vec<pb::Attribute>, Status> {
    let mut attributes = Vec::new();
    while let Some(message) = stream.message().await.map_err(errors::passed_on)? {
        size.add(&message)?;
        attributes.extend(message.attributes);
    }
    Ok(attributes)
}

/// All studies of a stream.
pub(crate) async fn studies(
    mut stream: Streaming<pb::ListResponse>,
    size: &mut AnswerSize,
) -> Result<Vec<pb::Study>, Status> {
    let mut studies = Vec::new();
    while let Some(message) = stream.message().await.map_err(errors::passed_on)? {
        size.add(&message)?;
        studies.extend(message.studies);
    }
    Ok(studies)
}

/// All trials of a stream. The parts of a trial follow each other.
pub(crate) async fn trials(mut stream: Streaming<pb::ListTrialsResponse>) -> Result<Vec<pb::Trial>, Status> {
    let mut size = AnswerSize::default();
    let mut trials = Vec::new();
    while let Some(message) = stream.message().await.map_err(errors::passed_on)? {
        size.add(&message)?;
        for part in message.trials {
            add_part(&mut trials, part);
        }
    }
    for trial in &mut trials {
        // Clients show params in the order in which they were set.
        trial.params.sort_by_key(|param| param.set_us);
    }
    Ok(trials)
}

fn add_part(trials: &mut Vec<pb::Trial>, part: pb::Trial) {
    match trials.last_mut() {
        Some(last) if last.number == part.number => {
            last.params.extend(part.params);
            last.user_attributes.extend(part.user_attributes);
            last.system_attributes.extend(part.system_attributes);
            last.intermediate_values.extend(part.intermediate_values);
        }
        _ => trials.push(part),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_trial_are_joined() {
        let part = |number, step: i64| pb::Trial {
            number,
            intermediate_values: [(step, 1.0)].into(),
            ..pb::Trial::default()
        };
        let mut trials = Vec::new();
        for part in [part(0, 1), part(1, 1), part(1, 2), part(2, 1)] {
            add_part(&mut trials, part);
        }
        let counts: Vec<_> = trials.iter().map(|it| (it.number, it.intermediate_values.len())).collect();
        assert_eq!(counts, [(0, 1), (1, 2), (2, 1)]);
    }
}
