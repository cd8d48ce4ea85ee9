//! Keys of studies and their trials: (p, 28, part, …).

use matyan_store::{Key, Range, Result};

use super::{Space, StudyPart, TrialPart, corrupt, join_key, subtree, tail};
use crate::ids::Project;

/// The owner of an attribute of a study or a trial. Numbers in keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AttributeKind {
    User = 0,
    /// The attribute belongs to the sampler.
    System = 1,
}

impl AttributeKind {
    pub const ALL: [Self; 2] = [Self::User, Self::System];

    fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u16 == number)
    }
}

/// The kinds of a trial's points. Each kind is logged, and marked, as a whole. The numbers are used in keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrialPointKind {
    IntermediateValues = 0,
    /// The values with which the trial has ended.
    Results = 1,
}

impl TrialPointKind {
    pub const ALL: [Self; 2] = [Self::IntermediateValues, Self::Results];

    pub(crate) fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u16 == number)
    }
}

/// The row of a trial that a key is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrialRow {
    Head,
    Param { name: String, piece: u32 },
    Attribute { kind: AttributeKind, name: String, piece: u32 },
    IntermediateValue { step: i64 },
}

fn part<T: foundationdb_tuple::TuplePack>(project: Project, part: StudyPart, rest: T) -> Key {
    join_key(super::project(project, Space::Study, (part as u16,)).into(), rest)
}

pub fn study_last(project: Project) -> Key {
    part(project, StudyPart::Last, ())
}

pub fn study_by_name(project: Project, name: &str) -> Key {
    part(project, StudyPart::Name, (name,))
}

pub fn study(project: Project, study: u32) -> Key {
    part(project, StudyPart::Study, (study,))
}

/// The tail is (study: u32).
pub fn studies(project: Project) -> Range {
    subtree(part(project, StudyPart::Study, ()))
}

pub fn study_trial_count(project: Project, study: u32) -> Key {
    part(project, StudyPart::TrialCount, (study,))
}

pub fn study_attribute_piece(
    project: Project,
    study: u32,
    kind: AttributeKind,
    name: &str,
    piece: u32,
) -> Key {
    part(project, StudyPart::Attribute, (study, kind as u16, name, piece))
}

/// The pieces of one attribute.
pub fn study_attribute(project: Project, study: u32, kind: AttributeKind, name: &str) -> Range {
    subtree(part(project, StudyPart::Attribute, (study, kind as u16, name)))
}

/// The attributes of a kind; the tail is (name: String, piece: u32).
pub fn study_attributes(project: Project, study: u32, kind: AttributeKind) -> Range {
    subtree(part(project, StudyPart::Attribute, (study, kind as u16)))
}

/// The attributes of both kinds.
pub fn study_attributes_all(project: Project, study: u32) -> Range {
    subtree(part(project, StudyPart::Attribute, (study,)))
}

pub fn study_distribution_piece(project: Project, study: u32, param: &str, piece: u32) -> Key {
    part(project, StudyPart::Distribution, (study, param, piece))
}

/// The pieces of the distribution of one param.
pub fn study_distribution(project: Project, study: u32, param: &str) -> Range {
    subtree(part(project, StudyPart::Distribution, (study, param)))
}

pub fn study_distributions(project: Project, study: u32) -> Range {
    subtree(part(project, StudyPart::Distribution, (study,)))
}

pub fn trial(project: Project, study: u32, number: u32) -> Key {
    trial_part(project, (study, number), TrialPart::Head, ())
}

fn trial_part<T: foundationdb_tuple::TuplePack>(
    project: Project,
    (study, number): (u32, u32),
    kind: TrialPart,
    rest: T,
) -> Key {
    join_key(part(project, StudyPart::Trial, (study, number, kind as u16)).into(), rest)
}

/// All rows of one trial; decode the keys with `decode_trial_row`.
pub fn trial_rows(project: Project, study: u32, number: u32) -> Range {
    subtree(part(project, StudyPart::Trial, (study, number)))
}

/// All rows of the trials from `number` on.
pub fn trials_from(project: Project, study: u32, number: u32) -> Range {
    let start = part(project, StudyPart::Trial, (study, number));
    Range::new(start, trials(project, study).end)
}

/// All rows of the trials of a study.
pub fn trials(project: Project, study: u32) -> Range {
    subtree(part(project, StudyPart::Trial, (study,)))
}

pub fn trial_param_piece(project: Project, study: u32, number: u32, name: &str, piece: u32) -> Key {
    trial_part(project, (study, number), TrialPart::Param, (name, piece))
}

/// The pieces of one param.
pub fn trial_param(project: Project, study: u32, number: u32, name: &str) -> Range {
    subtree(trial_part(project, (study, number), TrialPart::Param, (name,)))
}

pub fn trial_attribute_piece(
    project: Project,
    study: u32,
    number: u32,
    kind: AttributeKind,
    name: &str,
    piece: u32,
) -> Key {
    trial_part(project, (study, number), TrialPart::Attribute, (kind as u16, name, piece))
}

/// The pieces of one attribute.
pub fn trial_attribute(project: Project, study: u32, number: u32, kind: AttributeKind, name: &str) -> Range {
    subtree(trial_part(project, (study, number), TrialPart::Attribute, (kind as u16, name)))
}

pub fn intermediate_value(project: Project, study: u32, number: u32, step: i64) -> Key {
    trial_part(project, (study, number), TrialPart::IntermediateValue, (step,))
}

/// The intermediate values of a trial; the tail is (step: i64).
pub fn intermediate_values(project: Project, study: u32, number: u32) -> Range {
    subtree(trial_part(project, (study, number), TrialPart::IntermediateValue, ()))
}

/// The number of the trial that a row belongs to, and the kind of the row.
pub fn decode_trial_row(project: Project, study: u32, key: &Key) -> Result<(u32, TrialRow)> {
    let range = trials(project, study);
    let start = &range.start;
    let is_of = |part: u16, kind: TrialPart| part == kind as u16;
    if let Ok((number, part)) = tail::<(u32, u16)>(start, key)
        && is_of(part, TrialPart::Head)
    {
        return Ok((number, TrialRow::Head));
    }
    if let Ok((number, part, step)) = tail::<(u32, u16, i64)>(start, key)
        && is_of(part, TrialPart::IntermediateValue)
    {
        return Ok((number, TrialRow::IntermediateValue { step }));
    }
    if let Ok((number, part, name, piece)) = tail::<(u32, u16, String, u32)>(start, key)
        && is_of(part, TrialPart::Param)
    {
        return Ok((number, TrialRow::Param { name, piece }));
    }
    let (number, part, kind, name, piece) = tail::<(u32, u16, u16, String, u32)>(start, key)?;
    match AttributeKind::from_number(kind).filter(|_| is_of(part, TrialPart::Attribute)) {
        Some(kind) => Ok((number, TrialRow::Attribute { kind, name, piece })),
        None => Err(corrupt(key)),
    }
}

pub fn dead_study(project: Project, study: u32) -> Key {
    part(project, StudyPart::Dead, (study,))
}

/// The tail is (study: u32).
pub fn dead_studies(project: Project) -> Range {
    subtree(part(project, StudyPart::Dead, ()))
}

pub fn unfinished_study(project: Project, study: u32) -> Key {
    part(project, StudyPart::Unfinished, (study,))
}

/// The tail is (study: u32).
pub fn unfinished_studies(project: Project) -> Range {
    subtree(part(project, StudyPart::Unfinished, ()))
}

pub fn unlogged_points(project: Project, study: u32, number: u32, kind: TrialPointKind) -> Key {
    part(project, StudyPart::UnloggedPoints, (study, number, kind as u16))
}

/// The tail is (study: u32, number: u32, kind: u16).
pub fn unlogged_points_all(project: Project) -> Range {
    subtree(part(project, StudyPart::UnloggedPoints, ()))
}
