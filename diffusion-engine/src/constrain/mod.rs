//! Structure that cannot break: what a request demands of the answer's form ([`grammar`]) is compiled for the model's
//! [`vocabulary`] and enforced while the answer is written ([`constraint`]): what the form forces is written without
//! asking the model, what it forbids is never committed. [`schema`] says a schema in the library's words, [`bounds`] those of numbers, [`depth`] whether
//! compiling is safe, [`compiled`] keeps what was compiled, [`forcing`] cuts forced text into tokens,
//! [`closing`] finds the nearest end when tokens run out.
//! Must never know a decoder or a cache, nor put the answer's text into an error.

mod bounds;
mod closing;
mod compiled;
pub(crate) mod constraint;
mod depth;
mod forcing;
pub(crate) mod grammar;
mod schema;
#[cfg(test)]
mod tests;
pub(crate) mod vocabulary;
