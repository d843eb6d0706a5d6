"""Sound as it comes, from a microphone, a pipe or a file, to labels and events."""
