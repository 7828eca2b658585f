//! A document within a turn, as both of OpenAI's conversation dialects have it. Must never take one that lies with one
//! provider (`file_id`) for something that others can read.

use weir_protocol::{EngineError, Part};

use super::fields::{self, Members};

const PDF: &str = "data:application/pdf;base64,";

/// The part of this type whose file `members` tell of.
pub(crate) fn part(members: &Members<'_, '_>, kind: &str) -> Result<Part, EngineError> {
    let name = members.read("filename", fields::string)?;
    let data = members.read("file_data", fields::string)?.and_then(|data| url(data, name));
    let url = data.or(members.read("file_url", fields::string)?.map(str::to_owned));
    let other = || Part::Other { kind: fields::shown(kind) };
    Ok(url.map_or_else(other, |url| Part::File { url, name: name.map(str::to_owned) }))
}

/// Most clients send a data URL; some the bare data, which the name has to tell the type of.
fn url(data: &str, name: Option<&str>) -> Option<String> {
    if ["data:", "https://", "http://"].iter().any(|scheme| data.starts_with(scheme)) {
        return Some(data.to_owned());
    }
    let is_pdf = name.is_some_and(|name| name.to_ascii_lowercase().ends_with(".pdf"));
    (is_pdf && !data.is_empty()).then(|| format!("{PDF}{data}"))
}
