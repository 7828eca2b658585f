//! What the documents tell people to type is held to the program: commands parse, configs load, policies parse, links
//! lead somewhere. Must never list what the documents say a second time.

use std::path::{Path, PathBuf};

use clap::Parser;
use clap::error::ErrorKind;
use weir_router_policies::Policy;

use super::Cli;
use crate::config::{Inputs, load};

/// A document with its text.
struct Page {
    path: PathBuf,
    text: String,
}

/// A fenced block: its language, its text, the line it begins in.
struct Block<'a> {
    language: &'a str,
    text: String,
    line: usize,
}

fn pages() -> Vec<Page> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut paths: Vec<PathBuf> =
        ["README.md", "ARCHITECTURE.md", "openclaw-plugin/README.md"].iter().map(|name| root.join(name)).collect();
    paths.extend(std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path()));
    let page = |path: PathBuf| Page { text: std::fs::read_to_string(&path).unwrap(), path };
    paths.into_iter().filter(|path| path.extension().is_some_and(|end| end == "md")).map(page).collect()
}

fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut out: Vec<Block<'_>> = Vec::new();
    let mut inside = false;
    for (at, line) in text.lines().enumerate() {
        match line.strip_prefix("```") {
            Some(_) if inside => inside = false,
            Some(language) => {
                inside = true;
                out.push(Block { language, text: String::new(), line: at + 1 });
            }
            None if inside => out.last_mut().unwrap().text.extend([line, "\n"]),
            None => {}
        }
    }
    out
}

/// The words of a command line as a shell takes them, without a comment, a redirection or a `&` behind it.
fn words(line: &str) -> Vec<String> {
    let (mut out, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            ('#' | '<' | '|' | '&' | '>', None) if word.is_none() => break,
            (c, None) if c.is_whitespace() => out.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    out.extend(word);
    out
}

#[test]
fn every_command_is_understood() {
    let mut seen = 0;
    for Page { path, text } in pages() {
        let typed = blocks(&text).into_iter().filter(|block| block.language == "sh");
        let typed: Vec<String> =
            typed.flat_map(|block| block.text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
        let mentioned = text.split('`').skip(1).step_by(2).map(str::to_owned);
        let all = typed.into_iter().map(|line| (true, line)).chain(mentioned.map(|word| (false, word)));
        for (is_whole, line) in all.filter(|(_, line)| line.starts_with("weir ") && !line.contains(['…', '{'])) {
            seen += 1;
            if let Err(error) = Cli::try_parse_from(words(&line)) {
                // In running text a command may be named without what it needs.
                let is_named = matches!(
                    error.kind(),
                    ErrorKind::MissingRequiredArgument
                        | ErrorKind::MissingSubcommand
                        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
                        | ErrorKind::DisplayHelp
                );
                assert!(is_named && !is_whole, "{}: {line}\n{error}", path.display());
            }
        }
    }
    assert!(seen > 40, "only {seen} commands were found");
}

#[test]
fn every_config_loads_and_every_policy_parses() {
    let mut seen = 0;
    for Page { path, text } in pages() {
        for Block { text, line, .. } in blocks(&text).into_iter().filter(|block| block.language == "toml") {
            let place = format!("{}:{line}", path.display());
            // A model of the reader's own, and a GPU.
            if text.contains("/path/to/") || text.contains("device = \"cuda\"") {
                continue;
            }
            seen += 1;
            if text.contains("[[rule]]") {
                let rest =
                    "[[rule]]\nname = \"rest\"\nroute = \"ar\"\nreason = \"r\"\nattempts = [{ backend = \"ar\" }]\n";
                Policy::parse(&(text + rest), &place).unwrap_or_else(|error| panic!("{error}"));
                continue;
            }
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("weir.toml");
            std::fs::write(folder.path().join("agent.json"), "{}").unwrap();
            std::fs::write(folder.path().join("new.toml"), "").unwrap();
            // Each tenant has a key of its own.
            let parts: Vec<&str> = text.split("sha256:…").collect();
            let hash = |(at, part): (usize, &&str)| match at {
                0 => (*part).to_owned(),
                _ => format!("sha256:{at:064}{part}"),
            };
            std::fs::write(&file, parts.iter().enumerate().map(hash).collect::<String>()).unwrap();
            let named = text.lines().filter_map(|line| line.split_once("_env = \"")?.1.split('"').next());
            let env = named.map(|name| (name.to_owned(), "0123456789abcdef".to_owned())).collect();
            let inputs = Inputs { file: Some(file), env, ..Inputs::default() };
            load(&inputs).unwrap_or_else(|errors| panic!("{place}: {errors}"));
        }
    }
    assert!(seen > 8, "only {seen} configs were found");
}

#[test]
fn every_link_leads_somewhere() {
    for Page { path, text } in pages() {
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.starts_with("http")) {
            let file = link.split('#').next().unwrap_or_default();
            let there = file.is_empty() || path.parent().unwrap().join(file).exists();
            assert!(there, "{}: {link}", path.display());
        }
    }
}
