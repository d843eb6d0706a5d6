// A classic script, since browsers run no modules from file://: it says what to do there, and where JavaScript is old.
"use strict";

(function () {
  var notice = document.getElementById("notice");
  if (location.protocol === "file:") {
    var folder = decodeURIComponent(location.pathname).replace(/\/[^/]*$/, "").replace(/^\/([A-Za-z]:)/, "$1");
    notice.textContent = "Browsers run this page only from a server. In a terminal: ";
    var command = document.createElement("code");
    command.textContent = 'python3 -m http.server --bind 127.0.0.1 --directory "' + folder + '"';
    notice.append(command, " and then open http://127.0.0.1:8000");
    notice.hidden = false;
  } else if (!("noModule" in HTMLScriptElement.prototype) || typeof WebAssembly !== "object") {
    notice.textContent = "This browser has no WebAssembly or no modules: use a newer one.";
    notice.hidden = false;
  }
})();
