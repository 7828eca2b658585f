//! Which format each kind of tensor is packed in. Embeddings, head, attention, experts and dense layers differ in how
//! much they mind: docs/quantisation.md has the figures behind the defaults. Must never touch a number itself.

use weir_kernels::packed::Format;

/// Kinds of weight matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Rows looked up by token.
    Embedding,
    /// The vocabulary's matrix at the end.
    Head,
    /// Query, key, value and output matrices.
    Attention,
    /// Scores of experts.
    Router,
    /// The expert that every token visits.
    Shared,
    /// Routed experts.
    Experts,
    /// Dense feed-forward layers.
    Dense,
}

impl Class {
    /// All of them, with their names in a recipe.
    pub const ALL: [(Class, &'static str); 7] = [
        (Class::Embedding, "embedding"),
        (Class::Head, "head"),
        (Class::Attention, "attention"),
        (Class::Router, "router"),
        (Class::Shared, "shared"),
        (Class::Experts, "experts"),
        (Class::Dense, "dense"),
    ];

    /// The class of a matrix by its published name.
    pub(crate) fn of(name: &str) -> Class {
        match name {
            "model.word_embeddings.weight" => Class::Embedding,
            "lm_head.weight" => Class::Head,
            _ if name.contains(".attention.") => Class::Attention,
            _ if name.ends_with(".mlp.gate.weight") => Class::Router,
            _ if name.contains(".shared_experts.") => Class::Shared,
            _ if name.contains(".experts.") => Class::Experts,
            _ => Class::Dense,
        }
    }
}

/// A format for each class; `None` is f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recipe {
    formats: [Option<Format>; Class::ALL.len()],
}

impl Recipe {
    /// Everything as f32.
    pub const EXACT: Recipe = Recipe { formats: [None; Class::ALL.len()] };

    /// 8 bits, and the router as it is: what a recipe `q8` says.
    pub const Q8: Recipe = Recipe::all(Format::Q8);

    /// One format, and the router as it is: f32, as the reference computes it.
    const fn all(format: Format) -> Recipe {
        Recipe { formats: [Some(format); Class::ALL.len()] }.with(Class::Router, None)
    }

    /// The format of a class.
    pub fn format(&self, class: Class) -> Option<Format> {
        self.formats[class as usize]
    }

    /// The same with another format for one class.
    pub const fn with(mut self, class: Class, format: Option<Format>) -> Recipe {
        self.formats[class as usize] = format;
        self
    }

    /// What is packed when nothing is said: 4 bits with a minimum where most of the weights are, 8 bits for what every
    /// token passes through. docs/quantisation.md has the divergences behind it.
    pub const DEFAULT: Recipe = Recipe::Q8.with(Class::Experts, Some(Format::Q4m));

    /// A recipe by name, with exceptions: `default`, `q4`, `q4m,head=q8,router=f32`. The name's format is that of experts and
    /// whatever is not said to need more: a router is f32, as the reference computes it.
    ///
    /// # Errors
    /// Names the part that is not known.
    pub fn parse(text: &str) -> Result<Recipe, String> {
        let mut parts = text.split(',').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let base = match (name, format(name)) {
            ("default", _) => Recipe::DEFAULT,
            (_, format) => match format? {
                None => Recipe::EXACT,
                Some(format) => Recipe::all(format),
            },
        };
        parts.try_fold(base, |recipe, part| {
            let (class, name) = part.split_once('=').ok_or_else(|| format!("`{part}`: expected class=format"))?;
            let known = Class::ALL.iter().find(|(_, name)| *name == class);
            let (class, _) = known.ok_or_else(|| {
                let names: Vec<&str> = Class::ALL.iter().map(|(_, name)| *name).collect();
                format!("`{class}` is not one of {}", names.join(", "))
            })?;
            Ok(recipe.with(*class, format(name)?))
        })
    }
}

impl std::fmt::Display for Recipe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, (class, name)) in Class::ALL.into_iter().enumerate() {
            let separator = if index == 0 { "" } else { "," };
            write!(f, "{separator}{name}={}", self.format(class).map_or("f32", Format::name))?;
        }
        Ok(())
    }
}

/// A format by name; f32 is none.
fn format(name: &str) -> Result<Option<Format>, String> {
    match name {
        "f32" => Ok(None),
        name => match Format::named(name) {
            Some(format) => Ok(Some(format)),
            None => {
                let names: Vec<&str> = Format::ALL.into_iter().map(Format::name).collect();
                Err(format!("format `{name}` is not f32, {}", names.join(", ")))
            }
        },
    }
}
