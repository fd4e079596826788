"""What an application that builds on the vault needs in its own tests."""
