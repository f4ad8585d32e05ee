-- The table has this index already. The number is that of the other databases.
DO 0
