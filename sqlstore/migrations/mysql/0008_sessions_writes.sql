-- The table has this column already. The number is that of the other databases.
DO 0
