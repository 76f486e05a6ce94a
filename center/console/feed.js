// The list of events, newest first. Text enters through Vue's interpolation only: what an event
// says is never markup. The server tells events in any order and may tell one twice.
const KEPT = 100;
const SEVERITIES = ["critical", "warning", "info"];
const PHASES = { start: "started", update: "goes on", end: "ended" };

export default {
  template: `
    <div class="feed">
      <div class="feed-zone">Times are in your time zone ({{ zone }})</div>
      <ol class="feed-list" aria-live="polite" aria-relevant="additions">
        <li v-for="event in shown" :key="event.id" class="feed-row" :class="'is-' + tone(event)"
            :data-event="event.id" :data-incident="event.incident">
          <span class="severity" :class="'is-' + tone(event)">{{ event.severity }}</span>
          <div class="feed-body">
            <div class="feed-what" :title="what(event)">{{ what(event) }}</div>
            <div class="feed-where" :title="where(event)">{{ where(event) }}</div>
          </div>
          <div class="feed-end">
            <time class="feed-time" :datetime="iso(event)" :title="iso(event)">{{ time(event) }}</time>
            <div class="feed-phase" v-if="phase(event)">{{ phase(event) }}</div>
          </div>
        </li>
      </ol>
    </div>
  `,
  props: { events: Array },
  data() {
    return {
      shown: this.events.slice(0, KEPT),
      zone: Intl.DateTimeFormat().resolvedOptions().timeZone || "local time",
    };
  },
  methods: {
    take(events) {
      const byId = new Map(this.shown.map((event) => [event.id, event]));
      for (const event of events) byId.set(event.id, event);
      this.shown = [...byId.values()].sort((a, b) => b.id - a.id).slice(0, KEPT);
    },
    tone(event) {
      return SEVERITIES.includes(event.severity) ? event.severity : "info";
    },
    what(event) {
      const rule = event.rule || event.kind;
      if (event.message) return `${rule}: ${event.message}`;
      const parts = [event.label, event.plate, event.zone && `in ${event.zone}`, event.line && `across ${event.line}`];
      if (event.direction) parts.push(event.direction);
      if (event.count !== undefined) parts.push(`count ${event.count}`);
      const detail = parts.filter(Boolean).join(" ");
      return detail ? `${rule}: ${detail}` : rule;
    },
    where(event) {
      return [event.station, event.camera, event.task && event.task !== event.camera && `task ${event.task}`]
        .filter(Boolean)
        .join(" · ");
    },
    phase(event) {
      const phase = PHASES[event.phase] || event.phase || "";
      return [[phase, event.reason].filter(Boolean).join(", "), event.backfill && "late"]
        .filter(Boolean)
        .join(" · ");
    },
    moment(event) {
      const moment = new Date(event.t_ms);
      return Number.isNaN(moment.getTime()) ? null : moment;
    },
    iso(event) {
      return this.moment(event)?.toISOString() ?? "";
    },
    time(event) {
      const moment = this.moment(event);
      if (!moment) return "unknown time";
      const clock = moment.toLocaleTimeString("en-GB");
      const today = moment.toDateString() === new Date().toDateString();
      return today ? clock : `${moment.toLocaleDateString("en-GB", { day: "numeric", month: "short" })} ${clock}`;
    },
  },
};
