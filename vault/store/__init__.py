"""PostgreSQL: the truth. SQLAlchemy describes and migrates it; psycopg runs what is hot."""
