//! Flags of the commands that read settings, made from the table of settings.

use clap::Arg;

use super::{
    role::Program,
    setting::{Definition, Flag},
    table,
};

/// Returns the flags of a program, in the order of the table.
pub(crate) fn setting_flags(program: Program) -> impl Iterator<Item = Arg> {
    table::ALL.iter().filter_map(move |setting| {
        let flag = setting.flag.filter(|flag| flag.programs.contains(&program))?;
        Some(argument(setting, flag, program))
    })
}

fn argument(setting: &Definition, flag: Flag, program: Program) -> Arg {
    let default = setting.default_of(program).or(setting.computed).filter(|default| !default.is_empty());
    let default = default.map(|default| format!(" [default: {default}]")).unwrap_or_default();
    Arg::new(flag.name).long(flag.name).value_name(flag.value_name).help(format!("{}{default}", setting.help))
}
