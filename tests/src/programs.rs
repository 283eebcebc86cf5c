//! Small programs for the engine.
