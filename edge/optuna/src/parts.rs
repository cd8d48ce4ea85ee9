//! Answers that are joined from a stream of the backend, up to the largest size of an answer.

use matyan_proto::studies::v1 as pb;
use prost::Message as _;
use tonic::{Extensions, Status, Streaming};

use crate::{
    errors,
    large_answers::{AnswerTurn, LargeAnswers, SMALL_BYTES},
};

/// Largest answer. Clients accept any size, and expect all trials that are new to them in one message.
pub(crate) const ANSWER_BYTES: usize = 256 << 20;

/// Counts the bytes of an answer, and waits for its turn when it becomes large.
pub(crate) struct AnswerSize {
    bytes: usize,
    turn: AnswerTurn,
    answers: LargeAnswers,
}

impl AnswerSize {
    /// The size of the answer to a request.
    pub(crate) fn new(answers: &LargeAnswers, extensions: &Extensions) -> Self {
        Self { bytes: 0, turn: AnswerTurn::of_request(extensions), answers: answers.clone() }
    }

    async fn add(&mut self, bytes: usize) -> Result<(), Status> {
        self.bytes += bytes;
        if self.bytes <= SMALL_BYTES {
            return Ok(());
        }
        self.turn.take(&self.answers).await?;
        if self.bytes <= ANSWER_BYTES {
            return Ok(());
        }
        Err(Status::resource_exhausted(format!(
            "the answer has more than {ANSWER_BYTES} bytes: start a new study, or store large attributes elsewhere"
        )))
    }
}

/// Joins all attributes of a stream.
pub(crate) async fn attributes(
    mut stream: Streaming<pb::ListAttributesResponse>,
    size: &mut AnswerSize,
) -> Result<Vec<pb::Attribute>, Status> {
    let mut attributes = Vec::new();
    while let Some(message) = stream.message().await.map_err(errors::forwarded)? {
        size.add(message.encoded_len()).await?;
        attributes.extend(message.attributes);
    }
    Ok(attributes)
}

/// Joins all studies of a stream.
pub(crate) async fn studies(
    mut stream: Streaming<pb::ListResponse>,
    size: &mut AnswerSize,
) -> Result<Vec<pb::Study>, Status> {
    let mut studies = Vec::new();
    while let Some(message) = stream.message().await.map_err(errors::forwarded)? {
        size.add(message.encoded_len()).await?;
        studies.extend(message.studies);
    }
    Ok(studies)
}

/// Joins all trials of a stream, each converted as soon as it is complete. The parts of a trial follow each other.
pub(crate) async fn trials<T>(
    mut stream: Streaming<pb::ListTrialsResponse>,
    size: &mut AnswerSize,
    convert: impl Fn(pb::Trial) -> T,
) -> Result<Vec<T>, Status> {
    let mut trials = JoinedTrials { converted: Vec::new(), last: None, convert };
    while let Some(message) = stream.message().await.map_err(errors::forwarded)? {
        size.add(message.encoded_len()).await?;
        for part in message.trials {
            trials.add(part);
        }
    }
    Ok(trials.finish())
}

/// Trials that are joined from their parts.
struct JoinedTrials<T, F> {
    converted: Vec<T>,
    /// The last trial; more of its parts may follow.
    last: Option<pb::Trial>,
    convert: F,
}

impl<T, F: Fn(pb::Trial) -> T> JoinedTrials<T, F> {
    fn add(&mut self, part: pb::Trial) {
        match &mut self.last {
            Some(last) if last.number == part.number => {
                last.params.extend(part.params);
                last.user_attributes.extend(part.user_attributes);
                last.system_attributes.extend(part.system_attributes);
                last.intermediate_values.extend(part.intermediate_values);
            }
            _ => {
                self.end_last();
                self.last = Some(part);
            }
        }
    }

    fn end_last(&mut self) {
        if let Some(mut trial) = self.last.take() {
            // Clients show params in the order in which they were set.
            trial.params.sort_by_key(|param| param.set_us);
            self.converted.push((self.convert)(trial));
        }
    }

    fn finish(mut self) -> Vec<T> {
        self.end_last();
        self.converted
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
        let convert = |trial: pb::Trial| (trial.number, trial.intermediate_values.len());
        let mut trials = JoinedTrials { converted: Vec::new(), last: None, convert };
        for part in [part(0, 1), part(1, 1), part(1, 2), part(2, 1)] {
            trials.add(part);
        }
        assert_eq!(trials.finish(), [(0, 1), (1, 2), (2, 1)]);
    }
}
