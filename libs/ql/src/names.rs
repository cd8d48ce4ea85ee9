//! Enums of all predefined names of the language: names are looked up when a query is
//! compiled, never when it runs. Deliberately absent: names that reach beyond values (`type`,
//! `getattr`, `open`, `compile`, …).

/// Defines an enum whose variants have names in the language.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $name { $($variant),+ }

        impl $name {
            pub(crate) const ALL: &[(&'static str, $name)] = &[$(($text, $name::$variant)),+];

            pub(crate) fn find(name: &str) -> Option<Self> {
                Self::ALL.iter().find(|(text, _)| *text == name).map(|&(_, found)| found)
            }
        }
    };
}

named! {
    /// A property of a run.
    Property {
        Hash = "hash",
        Name = "name",
        Description = "description",
        Experiment = "experiment",
        CreatedAt = "created_at",
        CreationTime = "creation_time",
        EndTime = "end_time",
        Duration = "duration",
        Active = "active",
        Archived = "archived",
        IsArchived = "is_archived",
        Outcome = "outcome",
        Parent = "parent",
    }
}

/// Returns the property that a param of this name hides, if the run has such a param: Aim has
/// no such property.
pub(crate) fn hidden_property(name: &str) -> Option<Property> {
    match name {
        "finalized_at" => Some(Property::EndTime),
        "outcome" => Some(Property::Outcome),
        "parent" => Some(Property::Parent),
        _ => None,
    }
}

named! {
    /// A field of a sequence.
    SequenceField {
        Name = "name",
        Context = "context",
        Run = "run",
        Dtype = "dtype",
        First = "first",
        Last = "last",
        Min = "min",
        Max = "max",
        FirstStep = "first_step",
        LastStep = "last_step",
    }
}

named! {
    /// A type that can be called and used with `isinstance`.
    Class {
        Bool = "bool",
        Bytes = "bytes",
        Complex = "complex",
        DateTime = "datetime",
        Dict = "dict",
        Enumerate = "enumerate",
        Filter = "filter",
        Float = "float",
        FrozenSet = "frozenset",
        Int = "int",
        List = "list",
        Map = "map",
        Range = "range",
        Reversed = "reversed",
        Set = "set",
        Slice = "slice",
        Str = "str",
        TimeDelta = "timedelta",
        Tuple = "tuple",
        Zip = "zip",
    }
}

impl Class {
    pub(crate) fn name(self) -> &'static str {
        Self::ALL[self as usize].0
    }
}

named! {
    Function {
        Abs = "abs",
        All = "all",
        Any = "any",
        Callable = "callable",
        Chr = "chr",
        DelAttr = "delattr",
        DivMod = "divmod",
        Hash = "hash",
        Hex = "hex",
        Id = "id",
        IsInstance = "isinstance",
        IsSubclass = "issubclass",
        Len = "len",
        Max = "max",
        Min = "min",
        Oct = "oct",
        Ord = "ord",
        Pow = "pow",
        Reorder = "reorder",
        Repr = "repr",
        Round = "round",
        SameType = "same_type",
        SetAttr = "setattr",
        Sorted = "sorted",
        Sum = "sum",
        Test = "test",
    }
}

named! {
    Module {
        Math = "math",
        Random = "random",
        Text = "string",
        WhRandom = "whrandom",
    }
}

named! {
    MathFunction {
        Acos = "acos", Acosh = "acosh", Asin = "asin", Asinh = "asinh", Atan = "atan", Atan2 = "atan2",
        Atanh = "atanh", Cbrt = "cbrt", Ceil = "ceil", Comb = "comb", CopySign = "copysign", Cos = "cos",
        Cosh = "cosh", Degrees = "degrees", Dist = "dist", Erf = "erf", Erfc = "erfc", Exp = "exp",
        Exp2 = "exp2", Expm1 = "expm1", Fabs = "fabs", Factorial = "factorial", Floor = "floor",
        Fmod = "fmod", Frexp = "frexp", Fsum = "fsum", Gamma = "gamma", Gcd = "gcd", Hypot = "hypot",
        IsClose = "isclose", IsFinite = "isfinite", IsInf = "isinf", IsNan = "isnan", Isqrt = "isqrt",
        Lcm = "lcm", Ldexp = "ldexp", Lgamma = "lgamma", Log = "log", Log10 = "log10", Log1p = "log1p",
        Log2 = "log2", Modf = "modf", NextAfter = "nextafter", Perm = "perm", Pow = "pow", Prod = "prod",
        Radians = "radians", Remainder = "remainder", Sin = "sin", Sinh = "sinh", Sqrt = "sqrt",
        SumProd = "sumprod", Tan = "tan", Tanh = "tanh", Trunc = "trunc", Ulp = "ulp",
    }
}

named! {
    /// Functions of the class `datetime`.
    TimeFunction {
        FromIsoFormat = "fromisoformat",
        FromTimestamp = "fromtimestamp",
        Now = "now",
        Today = "today",
        UtcFromTimestamp = "utcfromtimestamp",
        UtcNow = "utcnow",
    }
}

named! {
    /// Attributes and methods of values; the type of a value determines which of them it
    /// has.
    Member {
        AsIntegerRatio = "as_integer_ratio", BitCount = "bit_count", BitLength = "bit_length",
        Capitalize = "capitalize", CaseFold = "casefold", Center = "center", Conjugate = "conjugate",
        Contains = "contains", Copy = "copy", Count = "count", Date = "date", Day = "day", Days = "days",
        Decode = "decode", Denominator = "denominator", Difference = "difference", Encode = "encode",
        EndsWith = "endswith", ExpandTabs = "expandtabs", Find = "find", Format = "format",
        FormatMap = "format_map", Get = "get", Hex = "hex", Hour = "hour", Imag = "imag", Index = "index",
        Intersection = "intersection", IsAlnum = "isalnum", IsAlpha = "isalpha", IsAscii = "isascii",
        IsDecimal = "isdecimal", IsDigit = "isdigit", IsDisjoint = "isdisjoint",
        IsIdentifier = "isidentifier", IsInteger = "is_integer", IsLower = "islower",
        IsNumeric = "isnumeric", IsPrintable = "isprintable", IsSpace = "isspace", IsSubset = "issubset",
        IsSuperset = "issuperset", IsTitle = "istitle", IsUpper = "isupper", IsoFormat = "isoformat",
        IsoWeekday = "isoweekday", Items = "items", Join = "join", Keys = "keys", Ljust = "ljust",
        Lower = "lower", Lstrip = "lstrip", MakeTrans = "maketrans", Microsecond = "microsecond",
        Microseconds = "microseconds", Minute = "minute", Month = "month", Numerator = "numerator",
        Partition = "partition", Real = "real", RemovePrefix = "removeprefix",
        RemoveSuffix = "removesuffix", Replace = "replace", Rfind = "rfind", Rindex = "rindex",
        Rjust = "rjust", Rpartition = "rpartition", Rsplit = "rsplit", Rstrip = "rstrip",
        Second = "second", Seconds = "seconds", Split = "split", SplitLines = "splitlines",
        Start = "start", StartsWith = "startswith", Step = "step", Stop = "stop", StrfTime = "strftime",
        Strip = "strip", SwapCase = "swapcase", SymmetricDifference = "symmetric_difference",
        Timestamp = "timestamp", Title = "title", TotalSeconds = "total_seconds",
        Translate = "translate", Union = "union", Upper = "upper", Values = "values",
        Weekday = "weekday", Year = "year", Zfill = "zfill",
    }
}

/// Exception classes: bound, callable and true, but otherwise useless.
const EXCEPTIONS: [&str; 47] = [
    "ArithmeticError",
    "AssertionError",
    "AttributeError",
    "BaseException",
    "BufferError",
    "BytesWarning",
    "DeprecationWarning",
    "EOFError",
    "EnvironmentError",
    "Exception",
    "FloatingPointError",
    "FutureWarning",
    "GeneratorExit",
    "IOError",
    "ImportError",
    "ImportWarning",
    "IndentationError",
    "IndexError",
    "KeyError",
    "KeyboardInterrupt",
    "LookupError",
    "MemoryError",
    "NameError",
    "NotImplementedError",
    "OSError",
    "OverflowError",
    "PendingDeprecationWarning",
    "ReferenceError",
    "RuntimeError",
    "RuntimeWarning",
    "StopIteration",
    "SyntaxError",
    "SyntaxWarning",
    "SystemError",
    "SystemExit",
    "TabError",
    "TypeError",
    "UnboundLocalError",
    "UnicodeDecodeError",
    "UnicodeEncodeError",
    "UnicodeError",
    "UnicodeTranslateError",
    "UnicodeWarning",
    "UserWarning",
    "ValueError",
    "Warning",
    "ZeroDivisionError",
];

/// A name whose meaning does not depend on a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Builtin {
    Class(Class),
    Function(Function),
    Module(Module),
    Math(MathFunction),
    Time(TimeFunction),
    /// Position in [`EXCEPTIONS`].
    Exception(u8),
    /// `string.Formatter` and `string.capwords`.
    Formatter,
    CapWords,
}

impl Builtin {
    /// Looks up a bare name.
    pub(crate) fn find(name: &str) -> Option<Self> {
        Class::find(name)
            .map(Builtin::Class)
            .or_else(|| Function::find(name).map(Builtin::Function))
            .or_else(|| Module::find(name).map(Builtin::Module))
            .or_else(|| {
                let at = EXCEPTIONS.iter().position(|exception| *exception == name)?;
                u8::try_from(at).ok().map(Builtin::Exception)
            })
    }
}

/// Returns a numeric constant of the module `math`.
pub(crate) fn module_number(module: Module, name: &str) -> Option<f64> {
    match (module, name) {
        (Module::Math, "pi") => Some(std::f64::consts::PI),
        (Module::Math, "e") => Some(std::f64::consts::E),
        (Module::Math, "tau") => Some(std::f64::consts::TAU),
        (Module::Math, "inf") => Some(f64::INFINITY),
        (Module::Math, "nan") => Some(f64::NAN),
        _ => None,
    }
}

pub(crate) fn module_text(module: Module, name: &str) -> Option<&'static str> {
    if module != Module::Text {
        return None;
    }
    match name {
        "ascii_lowercase" => Some("abcdefghijklmnopqrstuvwxyz"),
        "ascii_uppercase" => Some("ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
        "ascii_letters" => Some("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"),
        "digits" => Some("0123456789"),
        "hexdigits" => Some("0123456789abcdefABCDEF"),
        "octdigits" => Some("01234567"),
        "punctuation" => Some("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"),
        "whitespace" => Some(" \t\n\r\u{b}\u{c}"),
        "printable" => Some(
            "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ \t\n\r\u{b}\u{c}",
        ),
        _ => None,
    }
}

/// Returns the callable attribute of a module or class.
pub(crate) fn member_function(owner: Builtin, name: &str) -> Option<Builtin> {
    match owner {
        Builtin::Module(Module::Math) => MathFunction::find(name).map(Builtin::Math),
        Builtin::Module(Module::Text) if name == "Formatter" => Some(Builtin::Formatter),
        Builtin::Module(Module::Text) if name == "capwords" => Some(Builtin::CapWords),
        Builtin::Class(Class::DateTime) => TimeFunction::find(name).map(Builtin::Time),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The functions of `math` are omitted because the page documents them as a whole.
    #[test]
    fn every_name_is_documented() {
        let document = include_str!("../../../docs/concepts/matyanql.md");
        fn names<T>(all: &[(&'static str, T)]) -> Vec<&'static str> {
            all.iter().map(|(name, _)| *name).collect()
        }
        let names = [
            names(Property::ALL),
            names(SequenceField::ALL),
            names(Class::ALL),
            names(Function::ALL),
            names(Module::ALL),
            names(TimeFunction::ALL),
            names(Member::ALL),
        ];
        let missing: Vec<_> =
            names.concat().into_iter().filter(|name| !document.contains(&format!("`{name}`"))).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
