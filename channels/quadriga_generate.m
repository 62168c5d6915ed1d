function quadriga_generate( file, n_drops, first_seed )
%QUADRIGA_GENERATE  Channels of a 3GPP UMi cell by QuaDRiGa, in a file that csi-audit reads
%
%   addpath( 'QuaDRiGa/quadriga_src' )
%   quadriga_generate( 'umi.mat', 8, 1 )      % 8 drops of 250 users, seeds 1 to 8
%
% Then `csi-audit inspect umi.mat`. For MATLAB and Octave, by the documented calls of QuaDRiGa
% 2.8.1, which is no part of csi-audit; its licence is for non-commercial use. A seed gives other
% channels in MATLAB than in Octave. Training and test sets need seeds of their own.
%
% H [user, antenna, subcarrier], complex single, raw gains, antennas towards positive azimuth:
%
%   H(i,a,k) = sum_p coeff(a,p) exp( -2j pi f(k) tau(a,p) ),   f = (0:n_sub-1)/n_sub * bandwidth_hz
%
% from the carrier upwards, delays from the first path on.

% --- Settings -------------------------------------------------------------------------------------

scenario       = '3GPP_38.901_UMi';     % line of sight drawn by the standard's probability
fc_hz          = 2.655e9;
bandwidth_hz   = 10e6;
n_sub          = 32;
n_tx           = 32;                    % row of vertical omni elements, half a wavelength apart
n_users        = 250;                   % of a drop: they share an environment
bs_height_m    = 10;
user_height_m  = 1.5;
nearest_m      = 10;                    % users uniform in area on this ring
farthest_m     = 200;

% --- Base station ---------------------------------------------------------------------------------

s = qd_simulation_parameters;
s.center_frequency = fc_hz;
s.use_absolute_delays = false;
s.show_progress_bars = false;

bs_array = qd_arrayant( 'omni' );
bs_array.center_frequency = fc_hz;
bs_array.no_elements = n_tx;
bs_array.element_position( 2,: ) = ( (0:n_tx-1) - (n_tx-1)/2 ) * s.wavelength/2;

ant_pos_m = bs_array.element_position.';
bs_pos = [ 0, 0, bs_height_m ];
subcarrier_freq_hz = ( 0:n_sub-1 )/n_sub * bandwidth_hz;
quadriga_version = s.version;

% --- Drops ----------------------------------------------------------------------------------------

n = n_drops * n_users;
H = complex( zeros( n, n_tx, n_sub, 'single' ) );
is_los = false( n,1 );
ue_pos = zeros( n,3 );
[ delay_spread_s, asd_deg, esd_deg, k_factor_db, shadow_fading_db, path_gain_db, n_paths, ...
    drop_id, drop_seed ] = deal( zeros( n,1 ) );

for drop = 1 : n_drops
    seed = first_seed + drop - 1;
    set_seed( seed );

    l = qd_layout( s );
    l.tx_position = bs_pos.';
    l.tx_array = bs_array;
    l.no_rx = n_users;
    l.rx_array = qd_arrayant( 'omni' );
    l.randomize_rx_positions( farthest_m, user_height_m, user_height_m, 0, [], nearest_m );
    l.set_scenario( scenario );

    builder = l.init_builder;           % one row with line of sight, one without
    gen_parameters( builder );

    rows = ( drop-1 )*n_users + ( 1:n_users );
    positions = l.rx_position;          % [ 3, n_users ]
    ue_pos( rows,: ) = positions.';
    drop_id( rows ) = drop;
    drop_seed( rows ) = seed;

    for i = 1 : size( builder,1 )
        b = builder( i,1 );
        channel = get_channels( b );
        for k = 1 : b.no_rx_positions
            apart = sum( bsxfun( @minus, positions, b.rx_positions( :,k ) ).^2, 1 );
            [ ~, user ] = min( apart );
            row = rows( user );

            % 0: without the GPU, six times faster for so few subcarriers
            H( row,:,: ) = single( channel( 1,k ).fr( bandwidth_hz, n_sub, [], 0 ) );

            is_los( row ) = isempty( strfind( b.scenario, 'NLOS' ) );
            delay_spread_s( row ) = b.ds( 1,k );
            asd_deg( row ) = b.asD( 1,k );
            esd_deg( row ) = b.esD( 1,k );
            k_factor_db( row ) = 10*log10( b.kf( 1,k ) );
            shadow_fading_db( row ) = 10*log10( b.sf( 1,k ) );
            [ loss_db, scale ] = b.get_pl( b.rx_track( 1,k ), [], b.tx_track( 1,k ) );
            path_gain_db( row ) = shadow_fading_db( row )*scale( 1 ) - loss_db( 1 );
            n_paths( row ) = channel( 1,k ).no_path;
        end
    end
    disp( [ 'drop ', num2str( drop ), ' of ', num2str( n_drops ) ] );
end

save( file, 'H', 'scenario', 'fc_hz', 'bandwidth_hz', 'subcarrier_freq_hz', ...
    'ant_pos_m', 'bs_pos', 'ue_pos', 'is_los', 'delay_spread_s', 'asd_deg', 'esd_deg', ...
    'k_factor_db', 'shadow_fading_db', 'path_gain_db', 'n_paths', 'drop_id', 'drop_seed', ...
    'quadriga_version', '-v7' );
end


function set_seed( seed )
%SET_SEED  Seeds the generators that QuaDRiGa draws from
if exist( 'OCTAVE_VERSION', 'builtin' )
    rand( 'twister', seed );
    randn( 'twister', seed );
else
    rng( seed );
end
end
