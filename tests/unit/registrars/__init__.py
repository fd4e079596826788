"""Registrars without a database: what data may say, what is sent, and what is made of answers."""
