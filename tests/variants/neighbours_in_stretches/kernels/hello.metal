const uint place = thread_position_in_grid.y;
float number = float(x[place]);
number = fma(a, number, float(y[place]));
out[place] = T(number);
