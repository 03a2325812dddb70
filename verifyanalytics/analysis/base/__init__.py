"""What every statistic is made of: frames, rows, groups, persons, intervals, rates."""
