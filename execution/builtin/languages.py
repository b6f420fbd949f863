"""Which language a file is written in, judged by its name."""

from __future__ import annotations

from pathlib import PurePath

OTHER = "Other"

_SUFFIXES = {
    "Assembly": "asm s",
    "Batch": "bat cmd",
    "C": "c h",
    "C#": "cs",
    "C++": "cc cpp cxx hh hpp hxx",
    "CSS": "css less sass scss",
    "CSV": "csv tsv",
    "Clojure": "clj cljc cljs",
    "Dart": "dart",
    "Elixir": "ex exs",
    "Erlang": "erl hrl",
    "F#": "fs fsi fsx",
    "Font": "eot otf ttf woff woff2",
    "Fortran": "f f90 f95",
    "Go": "go",
    "GraphQL": "gql graphql",
    "Groovy": "gradle groovy",
    "HCL": "hcl tf",
    "HTML": "htm html xhtml",
    "Haskell": "hs",
    "INI": "cfg conf ini properties",
    "Image": "bmp gif ico jpeg jpg png svg tiff webp",
    "JSON": "json json5 jsonl ndjson",
    "Java": "java",
    "JavaScript": "cjs js jsx mjs",
    "Jupyter Notebook": "ipynb",
    "Julia": "jl",
    "Kotlin": "kt kts",
    "Lua": "lua",
    "Markdown": "markdown md mdx",
    "OCaml": "ml mli",
    "Objective-C": "m mm",
    "PHP": "php",
    "Perl": "pl pm",
    "PowerShell": "ps1 psm1",
    "Protocol Buffers": "proto",
    "Python": "py pyi pyx",
    "R": "r rmd",
    "Ruby": "gemspec rb",
    "Rust": "rs",
    "SQL": "sql",
    "Scala": "sc scala",
    "Shell": "bash fish sh zsh",
    "Svelte": "svelte",
    "Swift": "swift",
    "TOML": "toml",
    "TeX": "bib sty tex",
    "Text": "log rst txt",
    "TypeScript": "cts mts ts tsx",
    "Vue": "vue",
    "XML": "xml xsd xsl xslt",
    "YAML": "yaml yml",
    "Zig": "zig",
}

_NAMES = {
    "cmakelists.txt": "CMake",
    "containerfile": "Dockerfile",
    "dockerfile": "Dockerfile",
    "gemfile": "Ruby",
    "gnumakefile": "Makefile",
    "jenkinsfile": "Groovy",
    "license": "Text",
    "makefile": "Makefile",
    "rakefile": "Ruby",
    "readme": "Text",
}

_BY_SUFFIX = {f".{suffix}": language for language, suffixes in _SUFFIXES.items() for suffix in suffixes.split()}


def language_of(name: str) -> str:
    """The language of a file of that name, or `OTHER`."""
    name = name.lower()
    return _NAMES.get(name) or _BY_SUFFIX.get(PurePath(name).suffix, OTHER)
