//! The definition of a setting: its names, type, default, flag, value in the Helm chart and
//! help text. [`table`](super::table) defines all settings.

use super::role::Program;

/// A setting whose values have the type `T`.
pub(super) struct Setting<T> {
    pub(super) definition: Definition,
    pub(super) parse: fn(&str) -> Result<T, String>,
}

/// Everything about a setting except its type.
#[derive(Clone, Copy)]
pub(super) struct Definition {
    /// Key in the config file.
    pub(super) key: &'static str,
    /// Environment variables, highest precedence first. Messages use the first one.
    pub(super) variables: &'static [&'static str],
    /// True if the value must never be printed.
    pub(super) is_secret: bool,
    /// Default of all programs except the program in `exception`. Without any default, the setting
    /// may be absent.
    pub(super) default: Option<&'static str>,
    /// A program that has its own default.
    pub(super) exception: Option<(Program, &'static str)>,
    /// Description of a default that depends on other settings.
    pub(super) computed: Option<&'static str>,
    pub(super) flag: Option<Flag>,
    /// Path of the value of the Helm chart that sets it.
    pub(super) chart: Option<&'static str>,
    pub(super) help: &'static str,
}

/// The flag of a setting.
#[derive(Clone, Copy)]
pub(super) struct Flag {
    /// Without leading dashes.
    pub(super) name: &'static str,
    /// Name of its value in help texts.
    pub(super) value_name: &'static str,
    pub(super) programs: &'static [Program],
}

impl<T> Setting<T> {
    pub(super) const fn new(
        key: &'static str,
        variables: &'static [&'static str],
        parse: fn(&str) -> Result<T, String>,
    ) -> Self {
        let definition = Definition {
            key,
            variables,
            is_secret: false,
            default: None,
            exception: None,
            computed: None,
            flag: None,
            chart: None,
            help: "",
        };
        Self { definition, parse }
    }

    pub(super) const fn secret(mut self) -> Self {
        self.definition.is_secret = true;
        self
    }

    pub(super) const fn default(mut self, value: &'static str) -> Self {
        self.definition.default = Some(value);
        self
    }

    pub(super) const fn default_of(mut self, program: Program, value: &'static str) -> Self {
        self.definition.exception = Some((program, value));
        self
    }

    pub(super) const fn computed(mut self, description: &'static str) -> Self {
        self.definition.computed = Some(description);
        self
    }

    pub(super) const fn flag(
        mut self,
        name: &'static str,
        value_name: &'static str,
        programs: &'static [Program],
    ) -> Self {
        self.definition.flag = Some(Flag { name, value_name, programs });
        self
    }

    pub(super) const fn chart(mut self, path: &'static str) -> Self {
        self.definition.chart = Some(path);
        self
    }

    pub(super) const fn help(mut self, text: &'static str) -> Self {
        self.definition.help = text.trim_ascii_start();
        self
    }
}

impl Definition {
    /// The variable that messages name.
    pub(super) fn variable(&self) -> &'static str {
        self.variables[0]
    }

    pub(super) fn default_of(&self, program: Program) -> Option<&'static str> {
        match self.exception {
            Some((exception, value)) if exception == program.of_defaults() => Some(value),
            _ => self.default,
        }
    }

    /// Description of the default of every program, or `None` if the setting may be absent.
    pub(super) fn default_text(&self) -> Option<String> {
        let fixed = self.default.filter(|default| !default.is_empty()).map(|default| format!("`{default}`"));
        let exception = self
            .exception
            .map(|(program, value)| format!("`{value}` for `matyan {}`", program.command().join(" ")));
        let all: Vec<_> = fixed.or(self.computed.map(str::to_owned)).into_iter().chain(exception).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }
}
