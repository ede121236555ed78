//! The options of the attributes. Each attribute also knows the options of the other, to tell where
//! they belong.

/// An option that an attribute knows.
pub(crate) struct KnownOption {
    pub(crate) name: &'static str,
    pub(crate) form: OptionForm,
    /// An example, for messages.
    pub(crate) example: &'static str,
}

/// The form of an option after its name.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum OptionForm {
    /// `= expression`
    Value,
    /// `= expression`, or nothing
    MaybeValue,
    /// nothing
    Switch,
    /// `= [Type, …]`
    Types,
    /// `(options)`
    Options,
}

/// The options that are allowed in one place.
pub(crate) struct KnownOptions {
    /// The attribute whose documentation lists them.
    pub(crate) attribute: &'static str,
    pub(crate) known: Vec<&'static KnownOption>,
    /// The place where an option that is unknown here belongs, as the end of a sentence.
    pub(crate) elsewhere: fn(&str) -> Option<String>,
}

const fn known(name: &'static str, example: &'static str) -> KnownOption {
    KnownOption {
        name,
        form: OptionForm::Value,
        example,
    }
}

/// The options for names and descriptions.
pub(crate) const LABEL: [KnownOption; 3] = [
    known("name", "name = \"extract\""),
    known("description", "description = \"Reads the new orders.\""),
    known("tags", "tags = [\"daily\"]"),
];

/// The options for the caching of a task's results.
pub(crate) const CACHE: [KnownOption; 3] = [
    KnownOption {
        name: "cache",
        form: OptionForm::MaybeValue,
        example: "cache = \"1h\"",
    },
    known("cache_key", "cache_key = day_of"),
    known("version", "version = \"2\""),
];

/// The options that only a flow has.
pub(crate) const OF_FLOWS: [KnownOption; 12] = [
    known("schedule", "schedule = \"0 6 * * *\""),
    known("timezone", "timezone = \"Europe/Zurich\""),
    known("missed", "missed = \"all\""),
    known("max_active_runs", "max_active_runs = 1"),
    known("overlap", "overlap = \"skip\""),
    KnownOption {
        name: "depends_on_past",
        form: OptionForm::Switch,
        example: "depends_on_past",
    },
    known("timeout", "timeout = \"2h\""),
    KnownOption {
        name: "defaults",
        form: OptionForm::Options,
        example: "defaults(retries = 2)",
    },
    KnownOption {
        name: "resources",
        form: OptionForm::Types,
        example: "resources = [Database]",
    },
    known("connections", "connections = [\"postgres_default\"]"),
    known("variables", "variables = [\"batch_size\"]"),
    known("secrets", "secrets = [\"scoring_api_key\"]"),
];
