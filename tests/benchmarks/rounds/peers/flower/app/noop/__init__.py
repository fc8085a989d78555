"""The app that is sent to the SuperLink."""
