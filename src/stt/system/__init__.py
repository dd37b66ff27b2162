"""The ground below all rooms: packages, the user's folders, temporary files."""
