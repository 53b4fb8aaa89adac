
mod operations;
