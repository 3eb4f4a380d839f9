import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.time.Instant;
import java.time.LocalDate;
import java.time.LocalDateTime;
import java.time.ZoneId;
import java.time.ZonedDateTime;
import java.time.zone.ZoneOffsetTransition;
import java.util.ArrayList;
import java.util.List;
import java.util.TreeSet;

/** Prints, for each zone whose clocks change, a digest of the instants of each quarter of an hour around the changes. */
public class Instants {
    public static void main(String[] arguments) throws Exception {
        for (String name : new TreeSet<>(ZoneId.getAvailableZoneIds())) {
            List<LocalDate> dates = dates(name);
            if (!dates.isEmpty() && !name.startsWith("SystemV/")) {
                System.out.println(name + " " + digest(name, dates) + " " + String.join(" ", dates.stream().map(LocalDate::toString).toList()));
            }
        }
    }

    static List<LocalDate> dates(String name) {
        List<LocalDate> found = new ArrayList<>(changes(name, "2022-01-01", "2025-01-01"));
        if (name.equals("Pacific/Apia") || name.equals("Pacific/Fakaofo")) found.addAll(changes(name, "2011-12-01", "2012-01-31"));
        if (name.equals("Pacific/Kwajalein")) found.addAll(changes(name, "1993-01-01", "1994-01-01"));
        return found;
    }

    static List<LocalDate> changes(String name, String first, String end) {
        List<LocalDate> found = new ArrayList<>();
        Instant at = Instant.parse(first + "T00:00:00Z"), last = Instant.parse(end + "T00:00:00Z");
        ZoneOffsetTransition next = ZoneId.of(name).getRules().nextTransition(at);
        while (next != null && next.getInstant().isBefore(last)) {
            found.add(next.getDateTimeBefore().toLocalDate());
            next = ZoneId.of(name).getRules().nextTransition(next.getInstant());
        }
        return found;
    }

    static String digest(String name, List<LocalDate> dates) throws Exception {
        StringBuilder seconds = new StringBuilder();
        for (LocalDate date : dates) {
            for (int day = -1; day <= 1; day++) {
                for (int minutes = 0; minutes < 24 * 60; minutes += 15) {
                    LocalDateTime wall = date.plusDays(day).atTime(minutes / 60, minutes % 60);
                    seconds.append(ZonedDateTime.of(wall, ZoneId.of(name)).toEpochSecond()).append(',');
                }
            }
        }
        byte[] hash = MessageDigest.getInstance("SHA-256").digest(seconds.toString().getBytes(StandardCharsets.US_ASCII));
        return String.format("%064x", new java.math.BigInteger(1, hash)).substring(0, 16);
    }
}
