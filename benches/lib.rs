//! What the benches measure stands in their own files; `README.md` says how to run them and what they gave.
