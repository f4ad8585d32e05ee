-- Only SQLite and MySQL need this column. The number is that of the other databases.
SELECT 1
