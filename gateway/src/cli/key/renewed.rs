//! A config's text with a tenant's keys replaced: everything else in it stays as it was typed. Must never see a key.

use toml_edit::{Array, ArrayOfTables, Decor, DocumentMut, InlineTable, Item, RawString, Table, TableLike, Value};

use crate::config::nearest;

/// What becomes of a tenant's keys. Days are `YYYY-MM-DD`, so they compare as texts.
pub(super) struct Renewal<'a> {
    pub(super) tenant: &'a str,
    /// The new key's hash.
    pub(super) hash: &'a str,
    /// The new key's last day.
    pub(super) expires: Option<&'a str>,
    /// The old keys' last day; `None`: they end now.
    pub(super) last_day: Option<&'a str>,
    pub(super) today: &'a str,
}

/// The new text, and what became of each old key.
#[derive(Debug)]
pub(super) struct Renewed {
    pub(super) text: String,
    /// Hashes, each with its last day.
    pub(super) kept: Vec<(String, String)>,
    pub(super) removed: Vec<String>,
}

/// Why a text cannot be renewed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Misfit {
    #[error("it is no TOML: {0}")]
    Text(String),
    #[error("it has no `[[tenant]]` named `{name}`{help}")]
    Tenant { name: String, help: String },
    #[error("the `keys` of tenant `{0}` are not written as `keys = [{{ hash = \"…\" }}]` or `[[tenant.keys]]`")]
    Keys(String),
}

impl Renewal<'_> {
    /// The last day that an old key gets; `None`: it goes.
    fn end_of(&self, expires: &str) -> Option<String> {
        let last = self.last_day?;
        let is_over = !expires.is_empty() && expires < self.today;
        let ends_earlier = !expires.is_empty() && expires < last;
        (!is_over).then(|| if ends_earlier { expires } else { last }.to_owned())
    }

    /// Puts it into `text`.
    ///
    /// # Errors
    /// See [`Misfit`].
    pub(super) fn put_into(&self, text: &str) -> Result<Renewed, Misfit> {
        let document = text.parse::<DocumentMut>();
        let mut document = document.map_err(|error| Misfit::Text(error.message().to_owned()))?;
        let tenants = document.get_mut("tenant").and_then(Item::as_array_of_tables_mut);
        let mut names = Vec::new();
        let mut found = None;
        for table in tenants.into_iter().flat_map(ArrayOfTables::iter_mut) {
            let name = table.get("name").and_then(Item::as_str).unwrap_or_default();
            if name == self.tenant {
                found = Some(table);
                break;
            }
            names.push(name.to_owned());
        }
        let Some(tenant) = found else {
            let near = nearest(self.tenant, names.iter().map(String::as_str));
            let help = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            return Err(Misfit::Tenant { name: self.tenant.to_owned(), help });
        };
        let mut renewed = Renewed { text: String::new(), kept: Vec::new(), removed: Vec::new() };
        match tenant.get_mut("keys") {
            Some(Item::Value(Value::Array(keys))) => self.in_list(keys, &mut renewed),
            Some(Item::ArrayOfTables(keys)) => self.in_tables(keys, &mut renewed),
            _ => return Err(Misfit::Keys(self.tenant.to_owned())),
        }
        // They were gone through from the last to the first.
        renewed.kept.reverse();
        renewed.removed.reverse();
        renewed.text = document.to_string();
        Ok(renewed)
    }

    fn in_list(&self, keys: &mut Array, renewed: &mut Renewed) {
        let lines = Lines::of(keys);
        for at in (0..keys.len()).rev() {
            let Some(key) = keys.get_mut(at).and_then(Value::as_inline_table_mut) else { continue };
            if !self.old(key, renewed) {
                keys.remove(at);
            } else {
                key.fmt();
            }
        }
        let mut new = InlineTable::new();
        self.new_key(&mut new);
        keys.push(new);
        match lines {
            Some(lines) => lines.lay_out(keys),
            None => keys.fmt(),
        }
    }

    fn in_tables(&self, keys: &mut ArrayOfTables, renewed: &mut Renewed) {
        for at in (0..keys.len()).rev() {
            if keys.get_mut(at).is_some_and(|key| !self.old(key, renewed)) {
                keys.remove(at);
            }
        }
        let mut new = Table::new();
        self.new_key(&mut new);
        keys.push(new);
    }

    /// Whether an old key stays.
    fn old(&self, key: &mut dyn TableLike, renewed: &mut Renewed) -> bool {
        let text = |name: &str| key.get(name).and_then(Item::as_str).unwrap_or_default().to_owned();
        let (hash, expires) = (text("hash"), text("expires"));
        let Some(end) = self.end_of(&expires) else {
            renewed.removed.push(hash);
            return false;
        };
        if end != expires {
            key.insert("expires", toml_edit::value(end.as_str()));
        }
        renewed.kept.push((hash, end));
        true
    }

    fn new_key(&self, key: &mut dyn TableLike) {
        key.insert("hash", toml_edit::value(self.hash));
        if let Some(expires) = self.expires {
            key.insert("expires", toml_edit::value(expires));
        }
    }
}

/// How a list is laid out whose entries have lines of their own.
struct Lines {
    indent: String,
    /// What stands behind the last entry: a remark on it, and what is before the bracket.
    remark: String,
    bracket: String,
}

impl Lines {
    /// `None`: it is one line.
    fn of(keys: &mut Array) -> Option<Lines> {
        let text = |raw: Option<&RawString>| raw.and_then(RawString::as_str).unwrap_or_default().to_owned();
        let comma = keys.trailing_comma();
        let behind = text(Some(keys.trailing()));
        let last = keys.iter_mut().last()?;
        let indent = text(last.decor().prefix()).rsplit_once('\n')?.1.to_owned();
        let behind = if comma { behind } else { text(last.decor().suffix()) + &behind };
        last.decor_mut().set_suffix("");
        let (remark, bracket) = behind.rsplit_once('\n').unwrap_or((&behind, ""));
        Some(Lines { indent, remark: remark.trim_end().to_owned(), bracket: bracket.to_owned() })
    }

    /// The last entry is new.
    fn lay_out(&self, keys: &mut Array) {
        if let Some(new) = keys.iter_mut().last() {
            // The remark on the entry before it stays on that one's line.
            *new.decor_mut() = Decor::new(format!("{}\n{}", self.remark, self.indent), "");
        }
        keys.set_trailing(format!("\n{}", self.bracket));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: &str =
        "# ours\n[[tenant]]\nname = \"other\" # stays\nkeys = [{ hash = \"o\" }]\n\n[[tenant]]\nname = \"kitchen\"\n";

    fn renew(keys: &str, last_day: Option<&str>) -> Result<Renewed, Misfit> {
        let renewal = Renewal { tenant: "kitchen", hash: "new", expires: None, last_day, today: "2026-11-29" };
        renewal.put_into(&format!("{REST}{keys}concurrent = 4\n"))
    }

    #[track_caller]
    fn check(keys: &str, last_day: Option<&str>, wanted: &str) {
        let renewed = renew(keys, last_day).unwrap();
        assert_eq!(renewed.text, format!("{REST}{wanted}concurrent = 4\n"));
    }

    #[test]
    fn old_keys_get_an_end_and_the_new_one_stands_beside_them() {
        let week = Some("2026-12-06");
        check(
            "keys = [{ hash = \"a\" }] # two\n",
            week,
            "keys = [{ hash = \"a\", expires = \"2026-12-06\" }, { hash = \"new\" }] # two\n",
        );
        // One that ends earlier ends earlier; one that has ended goes.
        check(
            "keys = [\n    { hash = \"a\", expires = \"2026-12-01\" },\n    { hash = \"b\", expires = \"2026-11-28\" },\n    { hash = \"c\" },\n]\n",
            week,
            "keys = [\n    { hash = \"a\", expires = \"2026-12-01\" },\n    { hash = \"c\", expires = \"2026-12-06\" },\n    { hash = \"new\" },\n]\n",
        );
        check(
            "keys = [\n  # Anna's\n  { hash = \"a\" }, # first\n  ]\n",
            week,
            "keys = [\n  # Anna's\n  { hash = \"a\", expires = \"2026-12-06\" }, # first\n  { hash = \"new\" },\n  ]\n",
        );
        check(
            "keys = [\n  { hash = \"a\" } # first\n]\n",
            week,
            "keys = [\n  { hash = \"a\", expires = \"2026-12-06\" }, # first\n  { hash = \"new\" }\n]\n",
        );
        check("keys = [\n    { hash = \"a\" }\n]\n", None, "keys = [\n    { hash = \"new\" }\n]\n");
        let renewed = renew("keys = [{ hash = \"a\" }, { hash = \"b\", expires = \"2020-01-01\" }]\n", week).unwrap();
        assert_eq!(renewed.kept, [("a".to_owned(), "2026-12-06".to_owned())]);
        assert_eq!(renewed.removed, ["b"]);
    }

    #[test]
    fn tables_of_keys_are_tables_afterwards() {
        let renewal = Renewal {
            tenant: "t",
            hash: "new",
            expires: Some("2027-01-01"),
            last_day: Some("2026-12-06"),
            today: "2026-11-29",
        };
        let text = "[[tenant]]\nname = \"t\"\n\n[[tenant.keys]]\nhash = \"a\"\n";
        assert_eq!(
            renewal.put_into(text).unwrap().text,
            format!("{text}expires = \"2026-12-06\"\n\n[[tenant.keys]]\nhash = \"new\"\nexpires = \"2027-01-01\"\n")
        );
    }

    #[test]
    fn what_cannot_be_renewed_is_named() {
        let said = |text: &str, tenant| {
            let renewal = Renewal { tenant, hash: "new", expires: None, last_day: None, today: "2026-11-29" };
            renewal.put_into(text).unwrap_err().to_string()
        };
        assert!(said("keys = [", "t").contains("no TOML"));
        assert!(said(REST, "kitchn").contains("did you mean `kitchen`?"));
        assert!(said(REST, "kitchen").contains("`keys` of tenant `kitchen`"));
        assert!(said("", "t").contains("no `[[tenant]]` named `t`"));
    }
}
