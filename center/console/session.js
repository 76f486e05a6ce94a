// While the live connection is lost: has the session ended? Then only logging in again helps.
// A HEAD of a page makes nothing at the server, and the guard answers it by 401 without a session.
setInterval(async () => {
  if (document.getElementById("popup")?.getAttribute("aria-hidden") !== "false") return;
  const answer = await fetch(location.href, { method: "HEAD" }).catch(() => null);
  if (answer?.status === 401) location.assign("/login");
}, 2000);
